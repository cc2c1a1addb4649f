# From archives to a table: `snakemake --cores 2` makes each table that params.yaml names.
#
#     download -> shard -> pretrain -> adapt -> evaluate -> table
#
# Each rule calls the command `dacsm` of the same name. docs/pipeline.md says how rules, stages and DVC's stages connect.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


configfile: "params.yaml"


include: "workflow/rules/settings.smk"
include: "workflow/rules/inputs.smk"


wildcard_constraints:
    dataset="|".join(dataset_names()),
    experiment=r"\w+",
    archive=r"\w+",
    domain=r"\w+",
    source=r"\w+",
    target=r"\w+",
    method=r"\w+",
    seed=r"\d+",


localrules:
    all,


rule all:
    input:
        [PATHS.table(experiment) for experiment in PARAMS.tables],


include: "workflow/rules/download.smk"
include: "workflow/rules/shard.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/adapt.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/table.smk"
include: "workflow/rules/rescale.smk"
include: "workflow/rules/scales.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/phases.smk"


onstart:
    write_settings()


onerror:
    report_failures()
