"""What should be done, decided from one picture of a pool: values in, values out, nothing is carried out.

Its face is ``decide.decide``; ``forecast`` says when a ticket will be served, ``bound`` the longest that can take.
"""
