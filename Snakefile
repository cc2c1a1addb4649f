# From archives to a table and its page: `snakemake --cores 2` makes those that params.yaml names.
#
#     download -> shard -> pretrain -> adapt -> evaluate -> table -> summarise
#
# Each stage is a rule, a command `dacsm <stage>` and a module in dacsm/stages/. dacsm/ledger/pipeline.py declares what
# each reads and writes; docs/pipeline.md says how rules, stages and DVC connect.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    dataset="|".join(dataset_names()),
    experiment=r"\w+",
    archive=r"\w+",
    domain=r"\w+",
    source=r"\w+",
    method=r"\w+",
    task=r"\w+-\w+",
    seed=r"\d+",


localrules:
    all,


rule all:
    input:
        [of(experiment) for experiment in PARAMS.tables for of in (PATHS.table, PATHS.report)],


include: "workflow/rules/stages.smk"


onstart:
    gc.enable()
    write_settings()


onerror:
    report_failures()
