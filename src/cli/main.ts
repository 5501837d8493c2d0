#!/usr/bin/env node
/**
 * The program. It looks at the version of Node before anything is imported that an old one would stumble over.
 */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)

if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(
    `Charter needs Node 22.19 or later, and this is Node ${process.versions.node}; https://nodejs.org has newer ones.\n`
  )
  process.exitCode = 2
} else {
  const { main } = await import("./charter.ts")
  main()
}

export {}
