import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { existsSync, globSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Folder from "../src/Folder.ts"
import { workplace } from "./workplace.ts"

describe("a folder", () => {
  it("is made with those around it, where it is not there", () => {
    const dir = join(workplace(), "a", "b", "c")
    for (const _ of ["new", "there"]) {
      Folder.makeUnsafe(dir)
      assert.isTrue(statSync(dir).isDirectory())
    }
  })

  it.effect("that cannot be made is refused with what the system says", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "mine")
      writeFileSync(file, "")
      assert.throws(() => Folder.makeUnsafe(file), `EEXIST: file already exists, mkdir '${file}'`)
      assert.throws(() => Folder.makeUnsafe(join(file, "a")), `ENOTDIR: not a directory, mkdir '${join(file, "a")}'`)
      if (existsSync("/proc")) {
        assert.throws(() => Folder.makeUnsafe("/proc/none/a"), /^E[A-Z]+: .*'\/proc\/none'/)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(Folder.make("/proc/none/a"))))
      }
    })
  )

  it("is made in no other way, as Node's own never ends under /proc", () => {
    const root = join(import.meta.dirname, "..")
    const others = globSync("src/**/*.ts", { cwd: root }).filter((file) =>
      /\b(mkdir|mkdirSync|makeDirectory)\(/.test(readFileSync(join(root, file), "utf8"))
    )
    assert.deepStrictEqual(others, [join("src", "Folder.ts")])
  })
})
