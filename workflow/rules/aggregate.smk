"""From runs to tables and figures.

REQUIRED INPUTS: the metrics.json and history.csv of every run, the manifests, the certificates.
OUTPUTS: <results>/config.yaml, metrics.csv, history.csv, tables/*.{csv,html,tex}, figures/*.svg.
Later rules read the tidy files only, so that a colour never retrains.
"""


rule configuration:
    """Write the completed configuration: what remakes these results."""
    output:
        "<results>/config.yaml",
    log:
        "<logs>/configuration.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        config=ASKED,
    script:
        "../scripts/configuration.py"


rule aggregate:
    """Collect every run into tidy files: a row per run, a row per evaluation."""
    input:
        beside(run_files(), "history.csv"),
        metrics=run_files(),
    output:
        metrics="<results>/metrics.csv",
        history="<results>/history.csv",
    log:
        "<logs>/aggregate.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("scripts/aggregate.py"),
        experiments=EXPERIMENTS,
    script:
        "../scripts/aggregate.py"


rule models:
    """Compare the models of the main table, and say which to use."""
    input:
        # Not by name: Snakemake would hash the whole list for each of its files.
        per_user_files(),
        metrics=rules.aggregate.output.metrics,
    output:
        main="<results>/tables/main.csv",
        advice="<results>/tables/advice.csv",
        seconds="<results>/seconds/models.json",
    log:
        "<logs>/models.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("scripts/models.py"),
        config=ASKED,
    script:
        "../scripts/models.py"


rule claims:
    """Judge the papers' claims."""
    input:
        data_rows(),
        per_user_files(),
        metrics=rules.aggregate.output.metrics,
    output:
        table="<results>/tables/claims.csv",
        seconds="<results>/seconds/claims.json",
    log:
        "<logs>/claims.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("scripts/claims.py"),
        config=ASKED,
    script:
        "../scripts/claims.py"


rule summaries:
    """Make the tables that put runs together without comparing models."""
    input:
        data_rows(),
        split_manifests(config["protocol"]),
        per_user_files(),
        metrics=rules.aggregate.output.metrics,
        history=rules.aggregate.output.history,
    output:
        tables=summary_files(),
        seconds="<results>/seconds/summaries.json",
    log:
        "<logs>/summaries.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("scripts/summaries.py"),
        published=published.text(),
        config=ASKED,
    script:
        "../scripts/summaries.py"


rule results_notebook:
    """Show every table and figure in a notebook, and write them as HTML, LaTeX and SVG."""
    input:
        table_files("csv"),
        config=rules.configuration.output,
        metrics=rules.aggregate.output.metrics,
        history=rules.aggregate.output.history,
    output:
        table_files("tex"),
        *reported_files(),
    log:
        notebook="<logs>/notebooks/results.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/results.py.ipynb"),
    notebook:
        "../notebooks/results.py.ipynb"


rule tables:
    """Make every table."""
    input:
        table_files("csv", "html", "tex"),
    localrule: True


rule figures:
    """Make every figure."""
    input:
        figure_files(),
    localrule: True
