/**
 * The directions of the house (`docs/architecture.md`) as a test: which folder of `src` knows which.
 */
import { readFileSync, globSync } from "node:fs"
import { posix } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** How a module is named: loaded with the one that names it, loaded when asked for, or only a type. */
interface Import {
  readonly name: string
  readonly how: "loaded" | "later" | "type"
}

const statement =
  /^(import|export)\b(\s+type\b)?[^"'`;]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/gm

/** The modules that the text of a module names. */
const named = (text: string): ReadonlyArray<Import> =>
  [...text.matchAll(statement)].map(([, , type, from, bare, later]) => ({
    name: (from ?? bare ?? later)!,
    how: later !== undefined ? "later" : type !== undefined ? "type" : "loaded"
  }))

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "")

/** What each source imports: sources by their path from the root, packages by name. */
const imports: ReadonlyMap<string, ReadonlyArray<Import>> = new Map(
  globSync("src/**/*.ts", { cwd: root }).map((path) => {
    const file = path.replaceAll("\\", "/")
    const text = withoutComments(readFileSync(`${root}${path}`, "utf8"))
    const found = named(text).map(({ name, how }) => ({
      name: name.startsWith(".") ? posix.join(posix.dirname(file), name) : name,
      how
    }))
    return [file, found]
  })
)

/** Everything that is loaded with a source. */
const closure = (file: string, seen = new Set<string>()): ReadonlySet<string> => {
  for (const { name, how } of imports.get(file) ?? []) {
    if (how !== "loaded" || seen.has(name)) continue
    seen.add(name)
    closure(name, seen)
  }
  return seen
}

const inside = (folders: ReadonlyArray<string>) => (file: string) =>
  folders.some((folder) => file.startsWith(`src/${folder}/`))

/** The imports from the first folders to the others, as `from -> to`. */
const crossings = (from: ReadonlyArray<string>, to: ReadonlyArray<string>): ReadonlyArray<string> =>
  [...imports]
    .filter(([file]) => inside(from)(file))
    .flatMap(([file, names]) => names.flatMap(({ name }) => (inside(to)(name) ? [`${file} -> ${name}`] : [])))

const native = "onnxruntime-node"

describe("the directions of the house", () => {
  it("are read from imports of every form", () => {
    const text = `
import "a"
import { b } from "b"
import type {
  C
} from "c"
export * as D from "d"
export type { E } from "e"
const later = () => import("f")
const text = 'from "nowhere"'`
    assert.deepStrictEqual(
      named(text).map(({ name, how }) => `${name} ${how}`),
      ["a loaded", "b loaded", "c type", "d loaded", "e type", "f later"]
    )
    assert.isAbove(imports.size, 50)
  })

  it("name only sources that exist", () => {
    const missing = [...imports].flatMap(([file, names]) =>
      names.flatMap(({ name }) => (name.startsWith("src/") && !imports.has(name) ? [`${file} -> ${name}`] : []))
    )
    assert.deepStrictEqual(missing, [])
  })

  it("keep stages apart from the engine", () => {
    assert.deepStrictEqual(crossings(["stages"], ["engine", "onnx", "model", "providers", "recipes", "cli"]), [])
    assert.deepStrictEqual(
      crossings(["engine", "onnx", "model"], ["stages", "recipes", "cli", "providers", "sandbox", "evaluation"]),
      []
    )
  })

  it("go down from the engine to the model to ONNX", () => {
    assert.deepStrictEqual(crossings(["model"], ["engine"]), [])
    assert.deepStrictEqual(crossings(["onnx"], ["engine", "model"]), [])
  })

  it("lead to the command line from nowhere", () => {
    const others = [...new Set([...imports.keys()].flatMap((file) => file.split("/").slice(1, -1)[0] ?? []))]
    assert.deepStrictEqual(
      crossings(
        others.filter((folder) => folder !== "cli"),
        ["cli"]
      ),
      []
    )
  })

  it("let the oracle be asked by the evaluation alone", () => {
    const importers = (of: string) =>
      [...imports].filter(([, names]) => names.some(({ name }) => name === of)).map(([file]) => file)
    assert.deepStrictEqual(importers("src/sandbox/Oracle.ts"), ["src/sandbox/SandboxEvaluation.ts"])
    // The command line puts the evaluator into the sandbox's plan; nobody else names it.
    assert.deepStrictEqual(importers("src/sandbox/SandboxEvaluation.ts"), ["src/cli/Plan.ts"])
  })

  it("load nothing native with the stages, the mocks and the recipes", () => {
    assert.isTrue(closure("src/engine/index.ts").has(native))
    for (const entry of ["src/index.ts", "src/stages/index.ts", "src/testing/index.ts", "src/cli/charter.ts"]) {
      assert.isFalse(closure(entry).has(native), entry)
    }
  })
})
