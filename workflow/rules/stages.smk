# A rule for each stage that dacsm/ledger/pipeline.py declares: its files, settings, code and needs come from there.
for stage in STAGES.values():
    for name, labelled in rules_of(stage).items():

        rule:
            name:
                name
            input:
                inputs(stage),
            output:
                patterns(stage, labelled),
            log:
                log_of(stage),
            wildcard_constraints:
                experiment=experiments_of(labelled),
            priority: stage.priority
            conda:
                "../envs/dacsm.yaml"
            threads: needs(stage, "threads")
            resources:
                mem_mb=needs(stage, "mem_mb"),
                runtime=needs(stage, "runtime"),
                gpu=needs(stage, "gpu"),
            params:
                made_with=made_with(stage),
                command=command(stage),
            message:
                "{rule}: {wildcards}"
            shell:
                START + "{params.command} --log {log}"


ruleorder: table_unlabelled > table


# A target for each phase of each dataset, such as digits_adapted: what the stages of dvc.yaml ask for. It is of all
# experiments of the dataset that `tables` in params.yaml names.
for project in PROJECTS.values():
    for phase, stage in PHASES.items():

        rule:
            name:
                f"{project.dataset.name}_{phase}"
            input:
                phase_targets(project, stage),
