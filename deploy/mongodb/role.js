// The least role of the watcher, for mongosh:
//
//   WATCHER_DATABASE=cxbridge mongosh "mongodb://admin@HOST/admin" --file deploy/mongodb/role.js
//
// It can be run again: the role is brought to what stands here. Where --calls-collection and
// its like name other collections, change the names here. Then make the user:
//
//   use admin
//   db.createUser({user: "watcher", pwd: passwordPrompt(), roles: ["watcher"]})
//
// "" stands for that database, cxbridge where no variable names one. The list is JSON: a test
// compares it with what the watcher asks a server for.
const privileges = [
  {"db": "", "collection": "calls", "actions": ["find", "update", "changeStream", "createIndex", "listIndexes"]},
  {"db": "", "collection": "bots", "actions": ["find", "changeStream"]},
  {"db": "", "collection": "system_settings", "actions": ["find"]},
  {"db": "", "collection": "watcher_resume", "actions": ["find", "insert", "update", "remove"]},
  {"db": "", "collection": "watcher_skips", "actions": ["find", "insert", "update", "createIndex", "dropIndex"]},
  {"db": "local", "collection": "oplog.rs", "actions": ["find"]},
  {"db": "config", "collection": "version", "actions": ["find"]}
];

const database = process.env.WATCHER_DATABASE || "cxbridge";
const admin = db.getSiblingDB("admin");
const granted = privileges.map(p => ({
  resource: {db: p.db || database, collection: p.collection},
  actions: p.actions,
}));
if (admin.getRole("watcher")) {
  admin.updateRole("watcher", {privileges: granted, roles: []});
} else {
  admin.createRole({role: "watcher", privileges: granted, roles: []});
}
