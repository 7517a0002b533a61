"""From runs to tables and figures.

REQUIRED INPUTS: the metrics.json and history.csv of every run, the manifests, the certificates.
OUTPUTS: <results>/metrics.csv, history.csv, tables/*.{csv,html,tex}, figures/*.svg.
Later rules read the tidy files only, so that a colour never retrains.
"""


rule aggregate:
    """Collect every run into tidy files: a row per run, a row per evaluation."""
    input:
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
        experiments=experiments(),
    script:
        "../scripts/aggregate.py"


rule data_table:
    """Describe the data sets."""
    input:
        manifests=collect(
            rules.split.output.manifest,
            dataset=dataset_names(),
            protocol=config["protocol"],
        ),
    output:
        multiext("<results>/tables/data", ".csv", ".tex"),
        table=report(
            "<results>/tables/data.html",
            caption="../../report/captions/data.rst",
            category="1 Data",
            labels={"table": "data sets"},
        ),
    log:
        notebook="<logs>/notebooks/data.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/data.py.ipynb"),
    notebook:
        "../notebooks/data.py.ipynb"


rule main_table:
    """Compare the losses on each data set."""
    input:
        metrics=rules.aggregate.output.metrics,
        per_user=per_user_files(),
    output:
        multiext("<results>/tables/main", ".csv", ".tex"),
        table=report(
            "<results>/tables/main.html",
            caption="../../report/captions/main.rst",
            category="2 Main results",
            labels={"result": "losses compared", "format": "table"},
        ),
        figure=report(
            "<results>/figures/main.svg",
            caption="../../report/captions/main.rst",
            category="2 Main results",
            labels={"result": "losses compared", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/main.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/main.py.ipynb"),
    notebook:
        "../notebooks/main.py.ipynb"


rule advice:
    """Say which model to use on each data set, and how sure that is."""
    input:
        metrics=rules.aggregate.output.metrics,
        per_user=per_user_files(),
    output:
        "<results>/tables/advice.tex",
        csv="<results>/tables/advice.csv",
        table=report(
            "<results>/tables/advice.html",
            caption="../../report/captions/advice.rst",
            category="2 Main results",
            labels={"result": "which model to use", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/advice.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/advice.py.ipynb"),
        config=config,
    notebook:
        "../notebooks/advice.py.ipynb"


rule grid:
    """Show how a metric moves over a grid of settings."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/grid_{grid}", ".csv", ".tex"),
        table=report(
            "<results>/tables/grid_{grid}.html",
            caption="../../report/captions/grid.rst",
            category="3 Grids",
            labels={"grid": "{grid}", "format": "table"},
        ),
        figure=report(
            "<results>/figures/grid_{grid}.svg",
            caption="../../report/captions/grid.rst",
            category="3 Grids",
            labels={"grid": "{grid}", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/grid_{grid}.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/grid.py.ipynb"),
        grid=grid_entry,
    notebook:
        "../notebooks/grid.py.ipynb"


rule debiasing:
    """Say whether iALS and EASE absorb debiasing, and how far they move where they do not."""
    input:
        debiasing_rows(),
    output:
        multiext("<results>/tables/debiasing", ".csv", ".tex"),
        multiext("<results>/tables/moved", ".html", ".tex"),
        moved="<results>/tables/moved.csv",
        table=report(
            "<results>/tables/debiasing.html",
            caption="../../report/captions/debiasing.rst",
            category="4 Debiasing",
            labels={"debiasing": "certificates", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/debiasing.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/debiasing.py.ipynb"),
    notebook:
        "../notebooks/debiasing.py.ipynb"


rule truth_table:
    """Compare models by the truth of the simulated data sets."""
    input:
        "<results>/tables/debiasing.csv",
    output:
        multiext("<results>/tables/truth", ".csv", ".tex"),
        table=report(
            "<results>/tables/truth.html",
            caption="../../report/captions/truth.rst",
            category="4 Debiasing",
            labels={"debiasing": "truth", "format": "table"},
        ),
        figure=report(
            "<results>/figures/truth.svg",
            caption="../../report/captions/truth.rst",
            category="4 Debiasing",
            labels={"debiasing": "truth", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/truth.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/truth.py.ipynb"),
    notebook:
        "../notebooks/truth.py.ipynb"


rule shown_table:
    """Compare models, and debiased ones with their twins, by the items shown at random."""
    input:
        shown=collect(rules.shown.output, dataset=shown_names()),
        metrics=rules.aggregate.output.metrics,
        history=rules.aggregate.output.history,
    output:
        multiext("<results>/tables/shown", ".csv", ".tex"),
        table=report(
            "<results>/tables/shown.html",
            caption="../../report/captions/shown.rst",
            category="4 Debiasing",
            labels={"debiasing": "shown at random", "format": "table"},
        ),
        figure=report(
            "<results>/figures/shown.svg",
            caption="../../report/captions/shown.rst",
            category="4 Debiasing",
            labels={"debiasing": "shown at random", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/shown.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/shown.py.ipynb"),
    notebook:
        "../notebooks/shown.py.ipynb"


rule recommended_table:
    """Say what each model recommends: how many items, how evenly, how popular ones."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/recommended", ".csv", ".tex"),
        table=report(
            "<results>/tables/recommended.html",
            caption="../../report/captions/recommended.rst",
            category="2 Main results",
            labels={"result": "what is recommended", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/recommended.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/recommended.py.ipynb"),
    notebook:
        "../notebooks/recommended.py.ipynb"


rule learning_curves:
    """Show how the monitored metric rises with the epochs."""
    input:
        history=rules.aggregate.output.history,
    output:
        figure=report(
            "<results>/figures/learning_curves.svg",
            caption="../../report/captions/learning_curves.rst",
            category="5 Training",
            labels={"training": "learning curves"},
        ),
    log:
        notebook="<logs>/notebooks/learning_curves.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/learning_curves.py.ipynb"),
    notebook:
        "../notebooks/learning_curves.py.ipynb"


rule cost_table:
    """Say what each loss cost: time, memory, epochs."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/cost", ".csv", ".tex"),
        table=report(
            "<results>/tables/cost.html",
            caption="../../report/captions/cost.rst",
            category="5 Training",
            labels={"training": "cost"},
        ),
    log:
        notebook="<logs>/notebooks/cost.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/cost.py.ipynb"),
    notebook:
        "../notebooks/cost.py.ipynb"


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
