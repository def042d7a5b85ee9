"""`spark-bench all`: every model of the catalog in turn: deploy, check, measure, record.

plan.py          what is measured: models, variants, what the project refuses
variants.py      settings that are tried one after the other
preview.py       the plan for people, with estimates
job.py           the folder: what it was begun for, what is done, resuming
runner.py        each case in its turn (deploy, check, measure), then what was served before
deploy.py        why a deploy failed; what serves now
child.py         a command of ours, followed line by line; progress
suite_tables.py  the rows; results.csv, summary.txt and Markdown of them
"""
