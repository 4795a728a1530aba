// Compiles every .sol file beside this one into {abi, bytecode} JSON. Usage: see "Contracts" in ../README.md.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const solc = createRequire(join(process.cwd(), "package.json"))("solc");
const here = import.meta.dirname;
const names = readdirSync(here).filter((name) => name.endsWith(".sol"));
const input = {
  language: "Solidity",
  sources: Object.fromEntries(names.map((name) => [name, { content: readFileSync(join(here, name), "utf8") }])),
  settings: {
    optimizer: { enabled: true, runs: 200 },
    evmVersion: "paris",
    metadata: { appendCBOR: false },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
const errors = (output.errors ?? []).filter((each) => each.severity === "error");
if (errors.length > 0) {
  console.error(errors.map((each) => each.formattedMessage).join("\n"));
  process.exit(1);
}
for (const name of names) {
  const title = name.replace(".sol", "");
  const { abi, evm } = output.contracts[name][title];
  writeFileSync(join(here, `${title}.json`), JSON.stringify({ abi, bytecode: "0x" + evm.bytecode.object }) + "\n");
}
