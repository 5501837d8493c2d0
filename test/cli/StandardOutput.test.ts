import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { closeSync, existsSync, openSync } from "node:fs"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))
const sandbox = fileURLToPath(new URL("../../assets/sandbox", import.meta.url))

describe.skipIf(!existsSync("/dev/full"))("standard output on a full disk", () => {
  it.each([["--version"], ["run", "--help"], ["inspect", sandbox]])(
    "is told of in a sentence at the end, and the exit code is 1: charter %s",
    (...args) => {
      const full = openSync("/dev/full", "w")
      const { status, stderr } = spawnSync(process.execPath, [main, ...args], {
        stdio: ["ignore", full, "pipe"],
        encoding: "utf8"
      })
      closeSync(full)
      assert.strictEqual(
        stderr,
        "Standard output cannot be written: no space left on device; all else is done, and the same command says it again.\n"
      )
      assert.strictEqual(status, 1)
    }
  )
})
