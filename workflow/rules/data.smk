"""From a data set's name to a split.

REQUIRED INPUTS: nothing, or the files of a data set of your own.
OUTPUTS: <results>/data/{dataset}/manifest.json, users.parquet and items.parquet (the ids);
{protocol}/split.npz and split.json.
"""


rule fetch:
    """Fetch a file of a published data set from the mirror or its public homes, and verify it."""
    output:
        "<resources>/{dataset}/{file}",
    log:
        "<logs>/fetch/{dataset}/{file}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        mirror=mirror_flag,
    shell:
        "recloss fetch {wildcards.dataset} --only {wildcards.file} --out $(dirname {output})"
        " {params.mirror} > {log} 2>&1"


rule simulate:
    """Generate a data set from known true preferences and popularity-skewed exposure."""
    output:
        train="<results>/data/{dataset}/raw/train.txt",
        test="<results>/data/{dataset}/raw/test.txt",
        truth="<results>/data/{dataset}/raw/truth.npz",
        simulation="<results>/data/{dataset}/raw/simulation.json",
    log:
        "<logs>/simulate/{dataset}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.simulate"),
        flags=simulation_flags,
    shell:
        "recloss simulate --out $(dirname {output.train}) {params.flags} > {log} 2>&1"


rule prepare:
    """Read, validate and, where it is not, divide a data set; write it as arrays with a manifest."""
    input:
        unpack(interaction_files),
    output:
        arrays="<results>/data/{dataset}/interactions.npz",
        manifest="<results>/data/{dataset}/manifest.json",
        ids=multiext("<results>/data/{dataset}/", "users.parquet", "items.parquet"),
    log:
        "<logs>/prepare/{dataset}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.prepare"),
        files=input_flags,
        reading=reading_flags,
    shell:
        "recloss prepare {wildcards.dataset} {params.files} {params.reading}"
        " --out $(dirname {output.arrays}) > {log} 2>&1"


rule split:
    """Split into train, validation and test as the protocol says."""
    input:
        arrays=rules.prepare.output.arrays,
        manifest=rules.prepare.output.manifest,
    output:
        arrays="<results>/data/{dataset}/{protocol}/split.npz",
        manifest="<results>/data/{dataset}/{protocol}/split.json",
    log:
        "<logs>/split/{dataset}/{protocol}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.split"),
        validation=lookup("split/validation", within=config),
        seed=lookup("split/seed", within=config),
    shell:
        "recloss split --data {input.arrays} --manifest {input.manifest}"
        " --protocol {wildcards.protocol} --validation {params.validation} --seed {params.seed}"
        " --out $(dirname {output.arrays}) > {log} 2>&1"
