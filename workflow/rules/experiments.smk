"""Experiments beside the main table: tuning, lower bounds, inflation, published numbers, claims.

REQUIRED INPUTS: metrics.csv and history.csv, the trials, bounds.csv of each data set, debiasing.csv.
OUTPUTS: <results>/tuned.yaml; <results>/tables/{bounds,inflation,tuning,published,paper,readings,ablations,claims}.*.
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


rule tuning_table:
    """Say what the tuning found, at what budget."""
    output:
        multiext("<results>/tables/tuning", ".csv", ".tex"),
        table=report(
            "<results>/tables/tuning.html",
            caption="../../report/captions/tuning.rst",
            category="3 Grids",
            labels={"grid": "tuning", "format": "table"},
        ),
        figure=report(
            "<results>/figures/tuning.svg",
            caption="../../report/captions/tuning.rst",
            category="3 Grids",
            labels={"grid": "tuning", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/tuning.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/tuning.py.ipynb"),
        tuned=config["tuned"],
    notebook:
        "../notebooks/tuning.py.ipynb"


rule bounds_table:
    """Say how near each loss comes to its lower bound."""
    input:
        collect(rules.bounds.output, dataset=dataset_names()),
    output:
        multiext("<results>/tables/bounds", ".csv", ".tex"),
        table=report(
            "<results>/tables/bounds.html",
            caption="../../report/captions/bounds.rst",
            category="2 Main results",
            labels={"result": "lower bounds", "format": "table"},
        ),
        figure=report(
            "<results>/figures/bounds.svg",
            caption="../../report/captions/bounds.rst",
            category="2 Main results",
            labels={"result": "lower bounds", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/bounds.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/bounds.py.ipynb"),
    notebook:
        "../notebooks/bounds.py.ipynb"


rule inflation_table:
    """Say what picking the epoch on test gains."""
    input:
        history=rules.aggregate.output.history,
    output:
        multiext("<results>/tables/inflation", ".csv", ".tex"),
        table=report(
            "<results>/tables/inflation.html",
            caption="../../report/captions/inflation.rst",
            category="2 Main results",
            labels={"result": "inflation", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/inflation.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/inflation.py.ipynb"),
    notebook:
        "../notebooks/inflation.py.ipynb"


rule published_table:
    """Put published numbers beside ours."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/published", ".csv", ".tex"),
        table=report(
            "<results>/tables/published.html",
            caption="../../report/captions/published.rst",
            category="2 Main results",
            labels={"result": "published", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/published.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/published.py.ipynb"),
        published=published.text(),
    notebook:
        "../notebooks/published.py.ipynb"


rule paper_table:
    """Remake the paper's Table 2 beside its own numbers."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/paper", ".csv", ".tex"),
        table=report(
            "<results>/tables/paper.html",
            caption="../../report/captions/paper.rst",
            category="2 Main results",
            labels={"result": "the paper's Table 2", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/paper.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/paper.py.ipynb"),
        published=published.text(),
    notebook:
        "../notebooks/paper.py.ipynb"


rule ablations_table:
    """Go from one model to another step by step."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/ablations", ".csv", ".tex"),
        table=report(
            "<results>/tables/ablations.html",
            caption="../../report/captions/ablations.rst",
            category="3 Grids",
            labels={"grid": "ablations", "format": "table"},
        ),
        figure=report(
            "<results>/figures/ablations.svg",
            caption="../../report/captions/ablations.rst",
            category="3 Grids",
            labels={"grid": "ablations", "format": "figure"},
        ),
    log:
        notebook="<logs>/notebooks/ablations.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/ablations.py.ipynb"),
        config=config,
    notebook:
        "../notebooks/ablations.py.ipynb"


rule readings_table:
    """Say which reading of the paper's settings comes nearest to its numbers."""
    input:
        metrics=rules.aggregate.output.metrics,
    output:
        multiext("<results>/tables/readings", ".csv", ".tex"),
        table=report(
            "<results>/tables/readings.html",
            caption="../../report/captions/readings.rst",
            category="2 Main results",
            labels={"result": "readings", "format": "table"},
        ),
    log:
        notebook="<logs>/notebooks/readings.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/readings.py.ipynb"),
        published=published.text(),
        config=config,
    notebook:
        "../notebooks/readings.py.ipynb"


rule claims:
    """Judge the papers' claims."""
    input:
        metrics=rules.aggregate.output.metrics,
        per_user=per_user_files(),
        debiasing=debiasing_rows(),
        bounds=collect(rules.bounds.output, dataset=bounded_names()),
        shown=collect(rules.shown.output, dataset=shown_names()),
    output:
        multiext("<results>/tables/claims", ".csv", ".tex"),
        table=report(
            "<results>/tables/claims.html",
            caption="../../report/captions/claims.rst",
            category="0 Claims",
            labels={"claims": "verdicts"},
        ),
    log:
        notebook="<logs>/notebooks/claims.ipynb",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=rendering("notebooks/claims.py.ipynb"),
        config=config,
    notebook:
        "../notebooks/claims.py.ipynb"
