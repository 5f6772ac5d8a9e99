"""Looking at what a run has learned.

surprise.py   what each token of a text costs, and what the model had expected instead
inside.py     attention, logit lens, neighbours of a token, norms by layer
memory.py     what it writes that its training text holds word for word, and from which article
pages.py      all of that of one text, as an HTML page
writing.py    samples.md as a moving picture, from noise to prose
compare.py    several runs side by side
"""
