// Files of a bundle as JSON, and what is wrong with them.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace stts {

namespace fs = std::filesystem;

using Failure = std::runtime_error;  // what a user can meet, with what to do about it

template <class... Parts>
[[noreturn]] void fail(Parts const&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Failure(text.str());
}

inline std::string read_file(fs::path const& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (!stream) fail(file.string(), " cannot be read");
  return content;
}

// Whether the text is a number and nothing else; then it is read.
template <class Value>
bool is_number(std::string const& text, Value& value) {
  char const* const end = text.data() + text.size();
  return std::from_chars(text.data(), end, value).ptr == end;
}

// A JSON value. Text is as it stands in the file, escapes and all: the names that are looked for have none.
struct Json {
  char kind = '\0';  // '{', '[', '"', or 'w' for numbers and other words
  std::string text;  // of a word too
  std::vector<Json> items;
  std::vector<std::string> keys;  // of an object, in the order of `items`
  std::string where;              // the document and the way to this value, for messages

  void want(bool holds, std::string const& what) const {
    if (!holds) fail(where, ": wanted ", what, ": build the bundle again");
  }

  bool has(std::string const& key) const { return std::find(keys.begin(), keys.end(), key) != keys.end(); }

  Json const& operator[](std::string const& key) const {
    auto const found = std::find(keys.begin(), keys.end(), key);
    want(found != keys.end(), key);
    return items[static_cast<size_t>(found - keys.begin())];
  }

  template <class Value>
  Value number() const {
    Value value{};
    want(kind == 'w' && is_number(text, value), std::is_integral_v<Value> ? "a whole number" : "a number");
    return value;
  }

  std::vector<Json> const& list() const { return want(kind == '[', "a list"), items; }
  std::string const& word() const { return want(kind == '"', "text"), text; }
  int64_t integer() const { return number<int64_t>(); }
};

class JsonReader {
 public:
  explicit JsonReader(fs::path const& file) : file_(file.string()), content_(read_file(file)) {}

  Json read() {
    Json made = value(file_, 0);
    if (next() != '\0') refuse();
    return made;
  }

 private:
  [[noreturn]] void refuse() const { fail(file_, " is damaged at byte ", at_, ": copy or build the bundle again"); }

  char next() {  // that is no space; 0 at the end
    at_ = std::min(content_.find_first_not_of(" \t\r\n", at_), content_.size());
    return at_ < content_.size() ? content_[at_] : '\0';
  }

  bool take(char letter) {
    bool const is_next = next() == letter;
    at_ += is_next ? 1 : 0;
    return is_next;
  }

  std::string quoted() {
    if (!take('"')) refuse();
    size_t const start = at_;
    while (at_ < content_.size() && content_[at_] != '"') at_ += content_[at_] == '\\' ? 2 : 1;
    if (at_ >= content_.size()) refuse();
    return content_.substr(start, at_++ - start);
  }

  Json value(std::string const& where, int depth) {
    if (depth > 64) refuse();
    Json made;
    made.where = where;
    made.kind = next();
    if (bool const is_object = take('{'); is_object || take('[')) {
      while (!take(is_object ? '}' : ']')) {
        if (!made.items.empty() && !take(',')) refuse();
        if (is_object) made.keys.push_back(quoted());
        if (is_object && !take(':')) refuse();
        std::string const key = is_object ? made.keys.back() : std::to_string(made.items.size());
        made.items.push_back(value(where + (depth == 0 ? ": " : ".") + key, depth + 1));
      }
    } else if (made.kind == '"') {
      made.text = quoted();
    } else {
      size_t const end = std::min(content_.find_first_of(",]} \t\r\n", at_), content_.size());
      if (end == at_) refuse();
      made.kind = 'w';
      made.text = content_.substr(at_, end - at_);
      at_ = end;
    }
    return made;
  }

  std::string file_, content_;
  size_t at_ = 0;
};

}  // namespace stts
