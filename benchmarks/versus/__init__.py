"""fastnn against PyTorch, JAX, ONNX Runtime and OpenVINO, each in a process of its own.

``python -m benchmarks.versus --help`` tells how to run it.

* What is measured: network.py describes networks, workloads.py, zoo.py and random_networks.py have them with what is
  aimed at, feed.py writes them, their inputs and first weights. `*_model.py` build a network for each library.
* How: one `*_worker.py` for each library, behind worker.py; fleet.py starts and talks to them, duel.py times them
  alternating, peak.c reads what the machine can do meanwhile.
* Parts of a run: parts.py times works, many.py the zoo and random networks, whole.py whole processes (import, memory,
  training to an accuracy).
* Results: report.py, table.py and chart.py.
"""
