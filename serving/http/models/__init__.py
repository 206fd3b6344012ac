"""Models behind the endpoints: one that never changes, or several that change under load.

- `served`: a loaded version with its endpoints.
- `frontend`: the models of an app, with what all of them need.
- `loading`: loads a version, and runs it once.
- `follower`: serves the catalog in this process, and drops what is not in it any more.
- `shadows`: lets answered requests be copied to a version that is tried.
- `changes`: changes in a server of one process.
- `repository`: the calls that list and change the models.
- `calls`: finds the model of a native call.
- `fast_path`: finds the model of a small request.
- `oip`: finds the model of a call of the inference protocol.
- `listing`: lists the models.
- `assembly`: builds all of it from the settings.
"""
