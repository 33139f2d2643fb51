"""The process that the panel talks to: JSON lines in and out, loaded packs kept warm.

protocol   the messages, read and written; no torch, for both ends
client     the other end: start a worker, send it requests, read its answers; no torch
server     the worker's loop: read messages, run requests in order, cancel, survive errors
backend    what a request runs on: torch and the tasks, loaded late
folder     the private temporary folder, removed even after a crash
outputs    several files written together, or none
throttle   at most so many progress messages a second
"""
