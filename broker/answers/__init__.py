"""What a model server's answer is worth: judged while it passes, never held up or changed.

Its face is ``watcher.Watcher``, which is fed the pieces, and ``verdict.Verdict``, which it comes to.
"""
