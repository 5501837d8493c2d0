import { execFileSync } from "node:child_process"
import { existsSync, globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))

interface Package {
  readonly version: string
  readonly bin: Readonly<Record<string, string>>
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>
  readonly files: ReadonlyArray<string>
}

const own = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as Package

/** The sources that a built file, or a pattern of built files, is made of. */
const sources = (built: string): ReadonlyArray<string> =>
  globSync(built.replace(/^(\.\/)?dist\//, "src/").replace(/(\.d\.ts|\.js)$/, ".ts"), { cwd: root })

describe("package.json", () => {
  for (const [name, entry] of Object.entries(own.exports)) {
    if (typeof entry === "string") continue
    it(`exports "${name}" from a source that exists, with its types`, () => {
      assert.isNotEmpty(sources(entry.default))
      assert.deepStrictEqual(sources(entry.types), sources(entry.default))
    })
  }

  it("has a program, a licence and assets where it says", () => {
    assert.isNotEmpty(sources(own.bin["charter"]!))
    assert.isTrue(readFileSync(`${root}src/cli/main.ts`, "utf8").startsWith("#!/usr/bin/env node\n"))
    for (const file of own.files.filter((name) => name !== "dist")) assert.isTrue(existsSync(`${root}${file}`), file)
  })

  it("has the version that `charter --version` says", () => {
    const said = execFileSync(process.execPath, ["src/cli/main.ts", "--version"], { cwd: root, encoding: "utf8" })
    assert.include(said.trim().split(/\s+/), `v${own.version}`)
  })
})
