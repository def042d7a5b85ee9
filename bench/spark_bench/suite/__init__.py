"""`spark-bench all`: deploy, check, measure and record every model of the catalog in turn.

plan.py          what is measured: models, variants, what the project refuses
variants.py      settings that are tried one after the other
preview.py       the plan for people, with estimates
job.py           the suite's folder: its job, what is done so far, resuming
runner.py        deploy, check and measure each case; then restore what was served before
deploy.py        why a deploy failed; what is served now
child.py         a child process, followed line by line; progress
suite_tables.py  the rows of the cases, and results.csv, summary.txt and Markdown made from them
"""
