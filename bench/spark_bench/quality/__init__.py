"""`spark-bench quality`: send what serves items with known answers, and score what comes back.

items.py       an item: what is sent, and what is right; the items of a user's file
arithmetic.py  word problems, generated from a seed
grading.py     what an answer says, whether that is right, and the score of many
asking.py      the requests of items, and the message in a response
evaluate.py    a whole task: reach the server, send, grade, save, resume
"""
