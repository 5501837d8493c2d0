import { describe, expect, it } from "@effect/vitest"
import { Redacted } from "effect"
import { writeFileSync } from "node:fs"
import { homedir } from "node:os"
import * as path from "node:path"
import * as HubCache from "../../src/hub/HubCache.ts"
import { workplace } from "../workplace.ts"

describe("HubCache.environment", () => {
  it("finds the folder that Python's library finds", () => {
    const cached = (env: Record<string, string>) => HubCache.environment(env).cacheDir
    const usual = path.join(homedir(), ".cache", "huggingface", "hub")
    expect(cached({})).toBe(usual)
    expect(cached({ HF_HOME: "", HF_HUB_CACHE: "", XDG_CACHE_HOME: "" })).toBe(usual)
    expect(cached({ HF_HOME: "~/models" })).toBe(path.join(homedir(), "models", "hub"))
    expect(cached({ HF_HOME: "$SCRATCH/hf", SCRATCH: "/scratch" })).toBe(path.join("/scratch/hf", "hub"))
    expect(cached({ HF_HUB_CACHE: "${SCRATCH}/a~$NONE", SCRATCH: "/scratch" })).toBe("/scratch/a~$NONE")
    expect(cached({ XDG_CACHE_HOME: "/x" })).toBe(path.join("/x", "huggingface", "hub"))
  })

  it("takes the token that is set, or the one that a login has left", () => {
    const dir = workplace()
    const tokenOf = (env: Record<string, string>) => {
      const { token } = HubCache.environment({ HF_HOME: dir, ...env })
      return token === undefined ? undefined : Redacted.value(token)
    }
    expect(tokenOf({})).toBeUndefined()
    writeFileSync(path.join(dir, "token"), "hf_saved\n")
    writeFileSync(path.join(dir, "other"), "hf_other")
    expect(tokenOf({})).toBe("hf_saved")
    expect(tokenOf({ HF_TOKEN: "" })).toBe("hf_saved")
    expect(tokenOf({ HF_TOKEN_PATH: path.join(dir, "other") })).toBe("hf_other")
    expect(tokenOf({ HF_TOKEN: "hf_set" })).toBe("hf_set")
  })

  it("asks huggingface.co where no other hub is set", () => {
    expect(HubCache.environment({ HF_ENDPOINT: "" }).endpoint).toBe("https://huggingface.co")
    expect(HubCache.environment({ HF_ENDPOINT: " http://mirror/ " }).endpoint).toBe("http://mirror")
  })
})
