"""A simulated GPU server: the files, sockets and ports of a real one, for people without a GPU."""
