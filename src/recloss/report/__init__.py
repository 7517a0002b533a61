"""How is it shown? Tables, figures, and the page that holds them."""
