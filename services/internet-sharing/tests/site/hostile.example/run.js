ran("run.js");
