import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import { join } from "node:path"
import * as Bytes from "../../src/data/Bytes.ts"

const folder = Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())

const write = (file: string, text: string) => Stream.succeed(Buffer.from(text)).pipe(Bytes.write(file))

layer(NodeServices.layer)("writing under a name", (it) => {
  it.effect("that is a link keeps the link and replaces what it leads to, also where nothing is there yet", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* folder
      const [real, link, chain] = ["real.txt", "link.txt", "chain.txt"].map((name) => join(dir, name)) as [
        string,
        string,
        string
      ]
      yield* fs.symlink("real.txt", link)
      yield* fs.symlink("link.txt", chain)
      for (const text of ["new", "newer"]) {
        yield* write(chain, text)
        assert.strictEqual(yield* fs.readFileString(real), text)
        assert.strictEqual(yield* fs.readLink(chain), "link.txt")
      }
      assert.deepStrictEqual((yield* fs.readDirectory(dir)).toSorted(), ["chain.txt", "link.txt", "real.txt"])
      assert.strictEqual(yield* Bytes.target(chain), yield* Bytes.target(real))
    })
  )

  it.effect.skipIf(process.platform === "win32")("of a pipe or a device goes straight into it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* folder
      const pipe = join(dir, "pipe")
      execFileSync("mkfifo", [pipe])
      const [read] = yield* Effect.all([fs.readFileString(pipe), write(pipe, "through")], { concurrency: 2 })
      assert.strictEqual(read, "through")
      yield* write("/dev/null", "gone")
      const replaced = yield* Effect.flip(Bytes.atomically("/dev/null", () => Effect.void))
      assert.include(replaced.message, "/dev/null is a pipe or a device, which cannot be replaced")
      assert.deepStrictEqual(
        [(yield* fs.stat(pipe)).type, (yield* fs.stat("/dev/null")).type],
        ["FIFO", "CharacterDevice"]
      )
      assert.deepStrictEqual(yield* fs.readDirectory(dir), ["pipe"])
    })
  )

  it("of standard output is one of several", () => {
    for (const name of ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
      assert.isTrue(Bytes.isStandardOutput(name), name)
    for (const name of ["/dev/null", "/dev/fd/11", "stdout", "/dev/stderr"]) {
      assert.isFalse(Bytes.isStandardOutput(name), name)
    }
  })

  // As with --out /dev/stdout where a shell has opened a file to append to.
  it.effect.skipIf(process.platform === "win32")("of a descriptor adds to the file behind it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* folder
      const file = join(dir, "all.jsonl")
      yield* fs.writeFileString(file, "old\n")
      const fd = openSync(file, "a")
      yield* Effect.addFinalizer(() => Effect.sync(() => closeSync(fd)))
      yield* write(`/dev/fd/${fd}`, "new\n")
      assert.strictEqual(yield* fs.readFileString(file), "old\nnew\n")
      assert.deepStrictEqual(yield* fs.readDirectory(dir), ["all.jsonl"])
    })
  )

  it.effect("that the system does not take fails in its words, and is found before", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      const long = join(dir, "x".repeat(250))
      for (const attempt of [write(long, "text"), Bytes.probe(long)]) {
        assert.match((yield* Effect.flip(attempt)).message, /x cannot be written: name too long\.$/)
      }
      const fs = yield* FileSystem.FileSystem
      yield* Bytes.probe(join(dir, "short"))
      assert.deepStrictEqual(yield* fs.readDirectory(dir), [])
    })
  )

  it.effect.skipIf(process.platform === "win32")("that cannot be read says why in the system's words", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const loop = join(yield* folder, "loop")
      yield* fs.symlink("loop", loop)
      const { message } = yield* Effect.flip(Bytes.head(loop))
      assert.strictEqual(message, `${loop} cannot be read: too many symbolic links encountered.`)
    })
  )

  it.effect.skipIf(process.platform === "win32")("is not what is read: pipes and devices are refused", () =>
    Effect.gen(function* () {
      const said = (file: string) => Effect.map(Effect.flip(Bytes.head(file)), ({ message }) => message)
      assert.strictEqual(yield* said("/dev/null"), "/dev/null is a pipe or a device, which is not taken; give a file.")
      assert.strictEqual(yield* said("-"), "Standard input is not taken; give a file.")
    })
  )
})
