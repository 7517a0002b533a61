"""Tuning: trials under `heldout`, and the best of each model.

REQUIRED INPUTS: the trials' metrics.json and history.csv.
OUTPUTS: <results>/tuned.yaml.
"""


rule tune:
    """Write the best trial of every model on every data set to tuned.yaml, to be laid over the configuration."""
    input:
        metrics=trial_files("metrics.json"),
        history=trial_files("history.csv"),
    output:
        "<results>/tuned.yaml",
    log:
        "<logs>/tune.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        run=config["run"],
    script:
        "../scripts/tune.py"
