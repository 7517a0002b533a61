"""Linear models, the certificates that they absorb debiasing, and what judges trained models.

REQUIRED INPUTS: <results>/data/{dataset}/{protocol}/split.npz and split.json; for the truth, the items
shown at random and the bounds the runs of the main table.
OUTPUTS: <results>/{stage}/{dataset}/linear/{model}/{variant}/seed{seed}/metrics.json, history.csv and
per_user.npz; <results>/data/{dataset}/certificates.csv and .json, truth.csv, shown.csv and bounds.csv.
"""


rule linear:
    """Train iALS or EASE on one data set."""
    input:
        arrays=ancient(split_arrays),
        manifest=split_manifest,
    output:
        metrics="<results>/{stage}/{dataset}/linear/{linear}/{variant}/seed{seed}/metrics.json",
        history="<results>/{stage}/{dataset}/linear/{linear}/{variant}/seed{seed}/history.csv",
        per_user="<results>/{stage}/{dataset}/linear/{linear}/{variant}/seed{seed}/per_user.npz",
        vectors="<results>/{stage}/{dataset}/linear/{linear}/{variant}/seed{seed}/vectors.npz",
    log:
        "<logs>/{stage}/{dataset}/linear/{linear}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/{stage}/{dataset}/linear/{linear}/{variant}/seed{seed}.tsv"
    conda:
        "../../envs/recloss.yaml"
    threads: config["threads"]
    resources:
        gpu=gpus,
        mem_mb=training_memory,
        runtime=1440,
        # A resource, not a parameter: what was trained on another device stays.
        device=config["device"],
    params:
        code=lambda wildcards: finished.code_of(schema.LINEAR, wildcards.linear),
        flags=setting_flags,
        progress=progress_log(),
    shell:
        "recloss linear {wildcards.linear} --data {input.arrays}"
        " --manifest {input.manifest} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --out $(dirname {output.metrics}) --device {resources.device} --threads {threads}"
        " {params.flags} 2>&1 | tee -a {params.progress:q} > {log}"


rule certify:
    """Check on one data set whether iALS and EASE absorb debiasing, as printed and corrected."""
    input:
        arrays=ancient(split_arrays),
        manifest=split_manifest,
    output:
        "<results>/data/{dataset}/certificates.csv",
    log:
        "<logs>/certify/{dataset}.log",
    wildcard_constraints:
        dataset=one_of([] if FINISHED else dataset_names()),
    conda:
        "../../envs/recloss.yaml"
    threads: config["threads"]
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        code=code_hash("recloss.cli.certify"),
        models=certified_models,
        flags=as_flags(config["debiasing"]),
    shell:
        "recloss certify --data {input.arrays} --manifest {input.manifest}"
        " --out {output} --threads {threads} {params.models} {params.flags} > {log} 2>&1"


rule certified:
    """Note what certificates were computed with: by that an experiment knows its own."""
    input:
        rules.certify.output,
        split_manifest,
    output:
        "<results>/data/{dataset}/certificates.json",
    log:
        "<logs>/certified/{dataset}.log",
    wildcard_constraints:
        dataset=one_of([] if FINISHED else dataset_names()),
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        wanted=certificates_wanted,
    script:
        "../scripts/certified.py"


rule truth:
    """Judge the runs on a simulated data set by the truth that it knows."""
    input:
        arrays=ancient(split_arrays),
        manifest=split_manifest,
        truth=ancient(rules.simulate.output.truth),
        runs=judged_runs,
        vectors=judged_vectors,
    output:
        "<results>/data/{dataset}/truth.csv",
    log:
        "<logs>/truth/{dataset}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.truth"),
        published=published_folders(config["run"]),
    shell:
        "recloss truth --data {input.arrays} --manifest {input.manifest}"
        " --truth {input.truth} --runs $(dirname {input.runs}) --out {output}"
        " --published {params.published:q} > {log} 2>&1"


rule shown:
    """Judge the runs on a data set by the items that its users were shown at random."""
    input:
        arrays=ancient(split_arrays),
        manifest=split_manifest,
        shown=rules.prepare.output.arrays,
        runs=shown_runs,
        vectors=shown_vectors,
    output:
        "<results>/data/{dataset}/shown.csv",
    log:
        "<logs>/shown/{dataset}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.shown"),
        published=published_folders(config["run"]),
    shell:
        "recloss shown --data {input.arrays} --shown {input.shown}"
        " --runs $(dirname {input.runs}) --out {output}"
        " --published {params.published:q} > {log} 2>&1"


rule bounds:
    """Evaluate the bounds of InfoNCE, MINE and BPR (Eq. 11 to 13) at trained vectors."""
    input:
        arrays=ancient(split_arrays),
        runs=trained_runs,
        vectors=trained_vectors,
    output:
        "<results>/data/{dataset}/bounds.csv",
    log:
        "<logs>/bounds/{dataset}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.bounds"),
        published=published_folders(config["run"]),
    shell:
        "recloss bounds --data {input.arrays} --runs $(dirname {input.runs})"
        " --out {output} --published {params.published:q} > {log} 2>&1"
