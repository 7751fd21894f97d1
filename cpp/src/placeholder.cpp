namespace cgc {
extern const int placeholder;
const int placeholder = 0;
}  // namespace cgc
