"""The worker pool: a zygote that imports the app, workers forked from it, and their sockets."""
