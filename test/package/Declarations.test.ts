/** What a program in TypeScript sees of the package: the declarations as they are built. */
import { execFileSync } from "node:child_process"
import { copyFileSync, globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { workplace } from "../workplace.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const project = workplace()
const installed = join(project, "node_modules/charter-ai")

/** Runs the compiler in a folder; what it says where it fails, nothing where all is well. */
const compile = (cwd: string, ...args: ReadonlyArray<string>): string => {
  try {
    execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...args], { cwd, encoding: "utf8" })
    return ""
  } catch (error) {
    return (error as { readonly stdout: string }).stdout
  }
}

describe("the declarations of the package", () => {
  beforeAll(() => {
    mkdirSync(installed, { recursive: true })
    copyFileSync(join(root, "package.json"), join(installed, "package.json"))
    for (const name of ["effect", "@types"]) {
      symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name), "junction")
    }
    const dist = join(installed, "dist")
    assert.strictEqual(compile(root, "-p", "tsconfig.build.json", "--emitDeclarationOnly", "--outDir", dist), "")
  })

  it("leave no type open", () => {
    const open = globSync("dist/**/*.d.ts", { cwd: installed }).flatMap((file) =>
      readFileSync(join(installed, file), "utf8")
        .replace(/\/\*[\s\S]*?\*\//g, "")
        .split("\n")
        // The classes of `effect` take fields of any type.
        .filter((line) => /\bany\b/.test(line.replaceAll("A extends Record<string, any>", "")))
        .map((line) => `${file}: ${line.trim()}`)
    )
    assert.deepStrictEqual(open, [])
  })

  for (const [module, moduleResolution] of [
    ["nodenext", "nodenext"],
    ["esnext", "bundler"]
  ]) {
    it(`let a program that is a package itself export pipelines (${moduleResolution})`, () => {
      const file = "custom-pipeline.ts"
      copyFileSync(join(root, "examples", file), join(project, file))
      const compilerOptions = {
        ...{ module, moduleResolution, target: "es2024", types: ["node"] },
        ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: true },
        ...{ declaration: true, outDir: `out-${moduleResolution}`, rootDir: "." }
      }
      writeFileSync(join(project, "package.json"), '{ "type": "module" }')
      writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [file] }))
      assert.strictEqual(compile(project), "")
    })
  }
})
