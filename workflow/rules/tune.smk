"""Tuning: a study of every model on every data set under `heldout`, and the best of each.

REQUIRED INPUTS: <results>/data/{dataset}/heldout/split.npz and split.json.
OUTPUTS: <results>/tune/{dataset}/{backbone}/{model}/trials.csv and study.json; <results>/tuned.yaml and trials.csv.
"""


rule study:
    """Try settings of one model on one data set."""
    input:
        arrays=ancient("<results>/data/{dataset}/heldout/split.npz"),
        manifest="<results>/data/{dataset}/heldout/split.json",
        truth=truth_of_study,
    output:
        trials="<results>/tune/{dataset}/{backbone}/{model}/trials.csv",
        study="<results>/tune/{dataset}/{backbone}/{model}/study.json",
    log:
        "<logs>/tune/{dataset}/{backbone}/{model}.log",
    benchmark:
        "<benchmarks>/tune/{dataset}/{backbone}/{model}.tsv"
    wildcard_constraints:
        backbone=one_of([*known_backbones(), schema.LINEAR]),
        model=one_of([*known_losses(), *schema.linear_schema()]),
    conda:
        "../../envs/recloss.yaml"
    threads: config["threads"]
    resources:
        gpu=gpus,
        mem_mb=study_memory,
        runtime=1440,
        training=1,
        # A resource, not a parameter: what was tried on another device stays.
        device=config["device"],
    params:
        code=lambda wildcards: finished.code_of(
            wildcards.backbone, wildcards.model, study=True
        ),
        study=study_flags,
        progress=progress_log(),
        truth=truth_flag,
    shell:
        # The journal is no output: Snakemake deletes those before it runs a job again.
        "recloss tune --data {input.arrays} --manifest {input.manifest}"
        " --backbone {wildcards.backbone} --model {wildcards.model} --out $(dirname {output.study})"
        " --device {resources.device} --threads {threads} {params.truth} {params.study} 2>&1 | tee -a {params.progress:q} > {log}"


rule tune:
    """Write the best settings of every model on every data set to tuned.yaml, to be laid over the configuration."""
    input:
        beside(study_files(), "trials.csv"),
        studies=study_files(),
    output:
        tuned="<results>/tuned.yaml",
        trials="<results>/trials.csv",
    log:
        "<logs>/tune.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        run=config["run"],
    script:
        "../scripts/tune.py"
