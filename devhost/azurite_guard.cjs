// Loaded into Azurite by devhost: ends Azurite some seconds after the host that owns it is gone (a killed host cannot do
// that itself). A host that starts meanwhile on the same data takes it over by writing its pid into the file.
const fs = require("fs");
const file = process.env.DEVHOST_AZURITE_STATE;
const grace = Number(process.env.DEVHOST_AZURITE_GRACE || 15) * 1000; // seconds
const looks = 5;
let missed = 0;
setInterval(() => {
  try {
    process.kill(JSON.parse(fs.readFileSync(file, "utf8")).owner, 0);
    missed = 0;
  } catch {
    missed += 1;
    if (missed >= looks) process.kill(process.pid, "SIGTERM");
  }
}, grace / looks).unref();
