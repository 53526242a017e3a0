"""``secateur up``: the servers, what their forms show and may reach, and who watches over them."""
