"""All that lets the project run on one bare machine; production needs none of it."""
