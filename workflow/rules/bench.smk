"""Benchmarks, a target of their own: `snakemake bench`.

REQUIRED INPUTS: Gowalla's train.txt and test.txt, fetched whatever the experiment is.
OUTPUTS: results/bench/{part}.json, summary.json, growth.svg and bench.html.
"""


rule measure:
    """Measure one part after the other, with nothing beside."""
    input:
        train="<resources>/gowalla/train.txt",
        test="<resources>/gowalla/test.txt",
    output:
        collect("results/bench/{part}.json", part=BENCHMARKS),
    log:
        "logs/bench/measure.log",
    conda:
        "../../envs/recloss.yaml"
    threads: config["threads"]
    resources:
        gpu=gpus,
        runtime=60,
    params:
        code=measuring(),
        folder=workflow_folder(),
        parts=BENCHMARKS,
    shell:
        # The benchmarks are no part of the library: Python finds them in the workflow's folder.
        'export PYTHONPATH={params.folder:q}"${{PYTHONPATH:+:$PYTHONPATH}}";'
        " for part in {params.parts:q}; do"
        ' python -m benchmarks "$part" --data "$(dirname {input.train:q})"'
        " --out results/bench --threads {threads}"
        " || exit 1; done 2>&1 | tee {log:q}"


rule bench:
    """Write the ratios and the page; peers measured by `make bench-peers` are on it."""
    input:
        parts=rules.measure.output,
        peers=glob.glob("results/bench/peers.json"),
    output:
        summary="results/bench/summary.json",
        growth="results/bench/growth.svg",
        page="results/bench/bench.html",
    log:
        "logs/bench/page.log",
    localrule: True
    conda:
        "../../envs/recloss.yaml"
    params:
        code=[rendering("scripts/bench.py"), rendering("../benchmarks/page.py")],
        template=template_hash("benchmarks/bench.html.j2", "benchmarks/page.py"),
    script:
        "../scripts/bench.py"
