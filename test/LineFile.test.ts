import { assert, describe, it } from "@effect/vitest"
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { vi } from "vitest"
import * as LineFile from "../src/LineFile.ts"
import { workplace } from "./workplace.ts"

/** How many bytes the file system gives at a time. */
const system = vi.hoisted(() => ({ most: Infinity }))

vi.mock("node:fs", async (load) => {
  const fs = await load<typeof import("node:fs")>()
  const readSync = (fd: number, bytes: Buffer, at: number, length: number, from: number) =>
    fs.readSync(fd, bytes, at, Math.min(length, system.most), from)
  return { ...fs, readSync }
})

/** What a file is after something was done with it, and what that gave. */
const after = <A>(text: string, f: (fd: number) => A) => {
  const file = join(workplace(), "lines.jsonl")
  writeFileSync(file, text)
  const fd = openSync(file, "a+")
  const given = f(fd)
  closeSync(fd)
  return { given, text: readFileSync(file, "utf8") }
}

describe("a file of lines", () => {
  it("has the lines that have an end", () => {
    const lines = LineFile.of(Buffer.from("a\n\nb\nc"))
    assert.deepStrictEqual(
      lines.map((line) => line.toString()),
      ["a\n", "\n", "b\n"]
    )
  })

  it("ends behind its last line end, however much was torn off there", () => {
    for (const torn of ["", "c", "€".repeat(2 ** 16)]) {
      assert.strictEqual(after(`a\nb\n${torn}`, LineFile.endUnsafe).given, 4)
      assert.strictEqual(after(`a\nb\n${torn}`, LineFile.cutTornUnsafe).text, "a\nb\n")
      assert.strictEqual(after(torn, LineFile.cutTornUnsafe).text, "")
    }
  })

  it("has the same end where its file system gives few bytes at a time", () => {
    for (const most of [1, 3, 7]) {
      system.most = most
      assert.strictEqual(after("first\nsecond\nto", LineFile.cutTornUnsafe).text, "first\nsecond\n")
      const second = after("first\nsecond\n", (fd) => LineFile.readUnsafe(fd, Buffer.alloc(10), 6)).given
      assert.strictEqual(second.toString(), "second\n")
    }
    system.most = Infinity
  })

  it("is appended to, and tells where", () => {
    const { given, text } = after("a\n", (fd) =>
      ["b\nc\n", "d\n"].map((lines) => LineFile.appendUnsafe(fd, Buffer.from(lines)))
    )
    assert.deepStrictEqual(given, [2, 6])
    assert.strictEqual(text, "a\nb\nc\nd\n")
  })

  it("is as it was where lines cannot be appended", () => {
    const file = join(workplace(), "lines.jsonl")
    writeFileSync(file, "a\n")
    const fd = openSync(file, "r")
    assert.throws(() => LineFile.appendUnsafe(fd, Buffer.from("b\n")))
    closeSync(fd)
    assert.strictEqual(readFileSync(file, "utf8"), "a\n")
  })
})
