"""`spark-bench all`: deploy, check, measure and record every model of the catalog in turn.

plan.py          what is measured: models, variants, what the project refuses
variants.py      settings that are tried one after the other
preview.py       the plan for people, with estimates
job.py           the suite's folder: its job, what is done so far, resuming
runner.py        each case in turn; then restore what was served before
case_run.py      deploy, check, measure and score one case
deploy.py        why a deploy failed; what is served now
child.py         a child process, followed line by line; progress
suite_rows.py    the rows of the cases
suite_tables.py  results.csv and summary.txt made from them; suite_markdown.py: the rows to publish
"""
