"""fastnn against PyTorch, JAX and ONNX Runtime, each in a process of its own: ``python -m benchmarks.versus --help``.

workloads.py says what is measured and what is aimed at, feed.py with which images and weights. One `*_worker.py` for
each library runs it, behind worker.py; fleet.py starts and talks to them, duel.py times them in turns, peak.c reads what
the machine can do meanwhile. parts.py puts the parts of a run together, processes.py has those that are whole processes
(import, memory, training to an accuracy), report.py and chart.py show the results.
"""
