"use strict";
document.getElementById("made").textContent = `Made by a script: ${[1, 2, 3].map((n) => n * n).join(", ")}`;
document.body.insertAdjacentHTML("beforeend", "<p style='color:#06c'>and a line below it.</p>");
