from snakemake.utils import min_version

min_version("9.25")


configfile: "config.yaml"


include: "workflow/rules/common.smk"


report: "report/workflow.rst"


pathvars:
    results=f"results/{config['run']}",
    logs=f"logs/{config['run']}",
    benchmarks=f"logs/{config['run']}/benchmarks",
    published=f"results/published/{config['run']}",


wildcard_constraints:
    dataset=one_of(dataset["name"] for dataset in config["datasets"]),
    protocol="published|heldout",
    stage="train|heldout",
    backbone=one_of(known_backbones()),
    loss=one_of([] if FINISHED else known_losses()),
    linear=one_of([] if FINISHED else ["ials", "ease"]),
    control=one_of([] if FINISHED else config["controls"]),
    variant="[^/]+",
    seed=r"\d+",
    file=one_of({row.file for row in sources.table()}),


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/linear.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/bench.smk"


rule all:
    """Train everything and write the report."""
    default_target: True
    input:
        rules.report.output,
        rules.tables.input,
        rules.figures.input,
    localrule: True


rule data:
    """Fetch, validate and split every data set."""
    input:
        split_manifests(config["protocol"]),
    localrule: True


rule plan:
    """Print the plan of the experiment (see onstart) and stop."""
    localrule: True


# A target per data set, its training runs.
for name in dataset_names():
    refuse_rule(name)

    rule:
        name:
            name
        input:
            run_files(name),
        localrule: True


onstart:
    start()


onsuccess:
    print_findings()
