import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"

it("stages and mocks load no native code", () => {
  const modules = ["../../src/stages/index.ts", "../../src/testing/index.ts"].map((path) =>
    JSON.stringify(new URL(path, import.meta.url).href)
  )
  // Native addons are the shared objects of a process report; onnxruntime-node is one.
  const program = `
    await Promise.all([${modules.map((module) => `import(${module})`).join(", ")}])
    const { sharedObjects } = process.report.getReport()
    console.log(JSON.stringify(sharedObjects.filter((file) => file.endsWith(".node") || file.includes("onnxruntime"))))
  `
  const output = execFileSync(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    encoding: "utf8"
  })
  assert.deepStrictEqual(JSON.parse(output), [])
})
