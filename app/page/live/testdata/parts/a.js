parts js
