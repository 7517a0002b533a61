"""The report: one self-contained HTML file; and reference runs, of which the tidy part is committed.

REQUIRED INPUTS: every table and figure, metrics.csv.
OUTPUTS: <results>/report.html; <published>.
"""


rule report:
    """Collect tables, figures, configuration and provenance into one file."""
    input:
        table_files("csv"),
        rules.models.output.seconds,
        rules.claims.output.seconds,
        rules.summaries.output.seconds,
        config=rules.configuration.output,
        metrics=rules.aggregate.output.metrics,
        history=rules.aggregate.output.history,
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        results=subpath(output[0], parent=True),
        code=rendering("scripts/report.py"),
        template=folder_hash(Path(workflow.basedir) / "report"),
    script:
        "../scripts/report.py"


rule compare:
    """Say what changed beside another results folder, `--config against=FOLDER`."""
    input:
        "<results>/tables/claims.csv",
        config=rules.configuration.output,
        metrics=rules.aggregate.output.metrics,
    output:
        "<results>/compare.html",
    log:
        "<logs>/compare.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=code_hash("recloss.cli.compare", without=()),
        against=AGAINST,
        content=folder_hash(AGAINST) if AGAINST else "",
        template=workflow_folder(),
    shell:
        "recloss compare $(dirname {input.metrics}) {params.against:q}"
        " --template {params.template:q}/report --out {output} 2>&1 | tee {log}"


rule publish:
    """Copy tidy results to results/published/RUN, small enough to commit."""
    input:
        table_files("csv"),
        run_files(),
        beside(run_files(), "history.csv"),
        per_user_files(),
        data_rows(),
        rules.models.output.seconds,
        rules.claims.output.seconds,
        rules.summaries.output.seconds,
        rules.configuration.output,
        metrics=rules.aggregate.output.metrics,
        history=rules.aggregate.output.history,
    output:
        config="<published>/config.yaml",
        metrics="<published>/metrics.csv",
        history="<published>/history.csv",
    log:
        "<logs>/publish.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    script:
        "../scripts/publish.py"


rule restore:
    """Take the published runs, studies and certificates that are still this experiment's, to go on."""
    input:
        split_manifests(*split_protocols()),
    log:
        "<logs>/restore.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        published=published_folder(config["run"]),
        runs=WANTED,
    script:
        "../scripts/restore.py"


rule published_report:
    """Render the reports of the reference runs from what is committed; nothing is trained."""
    input:
        published_reports(),
    localrule: True


rule one_published_report:
    """Render the report of a reference run."""

    # No input: what is committed is no output of a rule, or another configuration would remake it.
    output:
        "results/published/{run}/report.html",
    log:
        "logs/published/{run}.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        results=lambda wildcards: published_folder(wildcards.run),
        content=lambda wildcards: folder_hash(published_folder(wildcards.run)),
        code=rendering("scripts/report.py"),
        template=folder_hash(Path(workflow.basedir) / "report"),
    script:
        "../scripts/report.py"
