"""A page to draw on: what a trained model makes of a drawing while it grows.

server.py   the page and its answers, on 127.0.0.1 alone
page.*      the page: plain HTML, CSS and JavaScript, nothing fetched from elsewhere
"""

from fastnn.insight.demo.server import DemoServer

__all__ = ["DemoServer"]
