"""The process that the panel talks to: JSON lines in and out, loaded packs kept warm.

protocol   the messages, read and written; no torch, for both ends
client     the other end: start a worker, send it requests, read its answers; no torch
server     the worker's loop: read messages, run requests in order, cancel, survive errors
backend    what a request runs on: torch and the tasks, loaded late
peak       the most memory that a run has taken
libraries  the versions that are needed, and what is there; nothing is loaded
check      what this Python can compute with, and what to do where something is wrong
process    a process that serves on its standard streams
folder     the private temporary folder, removed even after a crash
outputs    several files written together, or none
throttle   at most so many progress messages a second

At another computer, over ssh:

remote     a relay here that whoever talks to it takes for a worker
connection how the program there is started, and what went wrong in words
arrivals   where the relay puts the files that come
streamed   the worker's own streams there
frames     messages that bring their files along
"""
