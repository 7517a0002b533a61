"""The report: one self-contained HTML file.

REQUIRED INPUTS: every table and figure, metrics.csv.
OUTPUTS: <results>/report.html.
"""


rule report:
    """Collect tables, figures, configuration and provenance into one file."""
    input:
        table_files("csv", "html"),
        figure_files(),
        metrics=rules.aggregate.output.metrics,
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        config=config,
        code=code_hash(RENDER_SOURCES),
        template=template_hash("report.html.j2"),
    script:
        "../scripts/report.py"
