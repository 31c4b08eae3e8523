own js
