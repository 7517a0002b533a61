"""The report: one self-contained HTML file.

REQUIRED INPUTS: every table and figure, metrics.csv.
OUTPUTS: <results>/report.html.
"""


rule report:
    """Collect tables, figures, configuration and provenance into one file."""
    input:
        metrics=rules.aggregate.output.metrics,
        data=rules.data_table.output.table,
        main_table=rules.main_table.output.table,
        main_figure=rules.main_table.output.figure,
        grid_tables=collect(rules.grid.output.table, grid=grid_names()),
        grid_figures=collect(rules.grid.output.figure, grid=grid_names()),
        debiasing=debiasing_outputs("csv", "html"),
        truth=truth_outputs("html", "svg"),
        learning_curves=rules.learning_curves.output.figure,
        cost=rules.cost_table.output.table,
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
