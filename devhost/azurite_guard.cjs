// Loaded into Azurite by devhost: ends Azurite some seconds after the host that owns it is gone (a killed host cannot do
// that itself). A host that starts meanwhile on the same data takes it over by writing its pid into the file.
const fs = require("fs");
const file = process.env.DEVHOST_AZURITE_STATE;
let missed = 0;
setInterval(() => {
  try {
    process.kill(JSON.parse(fs.readFileSync(file, "utf8")).owner, 0);
    missed = 0;
  } catch {
    missed += 1;
    if (missed >= 5) process.kill(process.pid, "SIGTERM");
  }
}, 3000).unref();
