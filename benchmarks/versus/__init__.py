"""fastnn against PyTorch, JAX and ONNX Runtime, each in a process of its own: ``python -m benchmarks.versus --help``.

workloads.py says what is measured and what is aimed at, feed.py with which images and weights. One `*_worker.py` for
each library runs it, behind worker.py; fleet.py starts and talks to them, duel.py times them in turns, peak.c reads
what the machine can do meanwhile. parts.py and whole.py are the parts of a run: the first times works, the second whole
processes (import, memory, training to an accuracy). report.py, table.py and chart.py show the results.
"""
