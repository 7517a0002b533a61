"""Training runs and control rankings.

REQUIRED INPUTS: <results>/data/{dataset}/{protocol}/split.npz and split.json; the stage `train` has the
protocol of the configuration, `heldout` that.
OUTPUTS: <results>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}/metrics.json, history.csv,
per_user.npz and, of a trained model, vectors.npz.

What retrains: other settings, another code hash, another manifest. The arrays themselves are
ancient() and the manifest is compared by content, so that touching or moving files does not.
"""


rule train:
    """Train one loss on one data set with one seed."""
    input:
        arrays=ancient(split_arrays),
        manifest=split_manifest,
        truth=truth_of_prior,
    output:
        metrics="<results>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}/metrics.json",
        history="<results>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}/history.csv",
        per_user="<results>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}/per_user.npz",
        vectors="<results>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}/vectors.npz",
    log:
        "<logs>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/{stage}/{dataset}/{backbone}/{loss}/{variant}/seed{seed}.tsv"
    conda:
        "../../envs/recloss.yaml"
    threads: config["threads"]
    resources:
        gpu=gpus,
        mem_mb=training_memory,
        runtime=training_minutes,
        # Where trainings are grouped into jobs: how many run at a time (profiles/slurm).
        training=1,
        # Resources, not parameters: what was trained on another device or cluster stays.
        device=config["device"],
        checkpoint="removed",
    params:
        code=lambda wildcards: finished.code_of(wildcards.backbone, wildcards.loss),
        flags=setting_flags,
        progress=progress_log(),
        truth=truth_flag,
    shell:
        # The checkpoint is no output: Snakemake deletes those before it runs a job again.
        "recloss train --data {input.arrays} --manifest {input.manifest}"
        " --backbone {wildcards.backbone} --loss {wildcards.loss} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --out $(dirname {output.metrics}) --checkpoint $(dirname {output.metrics})/checkpoint.pt"
        " --at-end {resources.checkpoint:q}"
        " --device {resources.device} --threads {threads} {params.truth} {params.flags} 2>&1 | tee -a {params.progress:q} > {log}"


rule control:
    """Rank by popularity or at random."""
    input:
        arrays=ancient(split_arrays),
        manifest=split_manifest,
    output:
        metrics="<results>/train/{dataset}/control/{control}/base/seed{seed}/metrics.json",
        history="<results>/train/{dataset}/control/{control}/base/seed{seed}/history.csv",
        per_user="<results>/train/{dataset}/control/{control}/base/seed{seed}/per_user.npz",
    log:
        "<logs>/control/{dataset}/{control}/seed{seed}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.control"),
    shell:
        "recloss control {wildcards.control} --data {input.arrays}"
        " --manifest {input.manifest} --seed {wildcards.seed} --threads {threads}"
        " --out $(dirname {output.metrics}) > {log} 2>&1"
