-- name: note_generation
-- Write down that the server is another one than the last, if it is.
select railwatch.note_generation()

-- name: renew_feed
-- Begin a generation of the feed by hand: every reader goes back to $1.
select railwatch.renew_feed($1)
