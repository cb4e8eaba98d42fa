"""What a model server's answer is worth: judged as it passes, never held up or changed."""
